"""`flywheel report`: the whole store as one HTML page that needs no network.

`figures` and `tasks` ask the store and give frozen records; `charts` and `sections` say what is shown of them, `marks` draws;
`write` makes the page out of a template, a style sheet and a script. Nothing here writes to the store.
"""
