"""The one judgement of how the recorder is, and the jobs that check and mend a day, for commands and other programs."""
