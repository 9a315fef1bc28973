"""Reports for people: what `sonicscan-report` is made of.

    catalogue   a report file as rows, with its model and thresholds; filters
    statistics  shares, intervals and false discoveries; pure functions
    reviewed    decisions that people took on tracks
    summary     the figures of one report      diff    two reports compared
    evidence    a score taken apart over time and frequency, from the model's class maps
    pictures    evidence as a drawing (matplotlib)
    page        the self-contained HTML page (Jinja2, DataTables, Plotly)
    terminal    figures as text on a terminal (rich)

Only `pictures` and `page` need the extra `report`.
"""
