"""AutoDAN (arXiv 2310.04451): genetic search over templates, word by word or sentence by sentence."""
