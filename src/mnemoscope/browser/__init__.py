"""The run browser: what lies below a folder of runs, as pages that keep up with trainings.

May live here: the index of a folder, curves that grow, pages, the JSON of the same, the server and who may ask it. May
import: `mnemoscope.reporting`, `mnemoscope.runs`, `mnemoscope.contracts`, starlette and uvicorn (the extra `serve`).
Never torch, and never a room that trains or examines: nothing here writes, and what a folder holds is not trusted.
"""
