"""The static twin: the recorded views as a site that needs no server and no network.

A state of a view is a page of its own, map.html or map-kurtosis.html, and its dials are links to
other pages; so all that runs in the browser is what draws, the same scripts as the app's.

    parts      what a page is made of
    views      the views' states (lessons: those of Learn); contents: what each shows
    pages      states -> pages and the links among them
    render     a page -> HTML
    folder     pages, scripts, looks and zips -> a folder, all of it or nothing
"""
