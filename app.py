"""Builds and launches the explorer; a hosted Space runs this file."""

from aqviz.app import build, make_core, serve

core = make_core()
demo = build(core)

if __name__ == "__main__":
    serve(demo, core)
