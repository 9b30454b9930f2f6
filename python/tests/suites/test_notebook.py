"""A notebook whose cells' functions run in workers."""

import nbclient
import nbformat

CELLS = [
    "import aiopool\noffset = 10\nasync def shifted(x):\n    return x + offset\ndef square(x):\n    return x * x",
    "async with aiopool.Pool(2) as pool:\n"
    "    print(await pool.map(shifted, range(3)), await pool.map(square, range(3)))\n"
    "    print(await pool.apply(lambda: offset))",
    # A cell that is run again has the functions of now.
    "def square(x):\n    return -x",
    "with aiopool.ProcessPoolExecutor(1) as executor:\n    print(list(executor.map(square, range(3))))",
]


def test_cells():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    said = ["".join(output.text for output in cell.outputs if "text" in output) for cell in notebook.cells]
    assert said == ["", "[10, 11, 12] [0, 1, 4]\n10\n", "", "[0, -1, -2]\n"]
