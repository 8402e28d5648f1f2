"""What can be checked without a truth: runs against each other, halves, the spread of views, RELION's average."""
