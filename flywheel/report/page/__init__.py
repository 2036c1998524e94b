"""`flywheel report`: a workspace as one HTML page that needs no network.

`figures` and `tasks` read the store; `charts` (in the forms of `forms`) and `page.jinja` say what is shown; `write` renders
the page from the template, a style sheet and a script. Nothing here writes to the store.
"""
