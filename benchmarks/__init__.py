"""Measurements of the recorder beside a floor taken in the same run; see README.md here and docs/performance.md."""
