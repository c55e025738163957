"""What the recorder records: the tick, and every column of its table. Knows neither files nor libraries."""
