"""From tracks to rows: worker processes decode, and one detector scores."""
