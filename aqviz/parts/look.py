"""The page's look as Gradio's theme; its colours are the variables of app.css."""

import inspect

import gradio as gr

LOOK = {  # for light and dark alike: the variables of app.css change with the page
    "block_border_width": "0px",
    "block_background_fill": "transparent",
    "block_padding": "0px",
    "block_shadow": "none",
    "block_radius": "8px",
    "block_label_background_fill": "transparent",
    "block_title_text_color": "var(--soft)",
    "block_info_text_color": "var(--soft)",
    "input_background_fill": "var(--field)",
    "input_border_width": "1px",
    "input_border_color": "var(--line)",
    "button_border_width": "1px",
    "button_primary_background_fill": "var(--ink)",
    "button_primary_background_fill_hover": "var(--soft)",
    "button_primary_border_color": "var(--ink)",
    "button_primary_text_color": "var(--paper)",
    "button_secondary_background_fill": "var(--paper)",
    "button_secondary_background_fill_hover": "var(--page)",
    "button_secondary_border_color": "var(--line)",
    "button_secondary_text_color": "var(--ink)",
    "checkbox_background_color_selected": "var(--check)",
    "checkbox_border_color_selected": "var(--check)",
    "checkbox_label_text_color_selected": "var(--ink)",
    "body_background_fill": "var(--page)",
    "body_text_color": "var(--ink)",
    "body_text_color_subdued": "var(--soft)",
    "background_fill_primary": "var(--paper)",
    "background_fill_secondary": "var(--page)",
    "border_color_primary": "var(--line)",
    "link_text_color": "var(--ink)",
}
THEME = gr.themes.Base(
    primary_hue=gr.themes.colors.zinc,
    secondary_hue=gr.themes.colors.zinc,
    neutral_hue=gr.themes.colors.zinc,
    font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"],
    font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "monospace"],
)
SETTABLE = inspect.signature(gr.themes.Base.set).parameters
THEME.set(
    **LOOK,
    **{f"{name}_dark": value for name, value in LOOK.items() if f"{name}_dark" in SETTABLE},
)
