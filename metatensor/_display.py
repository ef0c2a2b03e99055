"""Text and HTML forms."""
def labels_text(names, table, max_entries, indent=0): return str(names)
def entry_text(names, values): return "(" + ", ".join(f"{n}={v}" for n, v in zip(names, values)) + ")"
def block_text(block): return "TensorBlock"
def tensor_text(tensor, max_keys): return "TensorMap"
