"""What the operators of a layer do to where its attention looks: measured, tabulated, drawn."""
