"""The full-screen app. It starts drivers and follows what they write; it never loads torch and never runs a stage.

`app` is the frame; `panes` what it shows, `widgets` what panes are made of, `services` what they ask.
"""
