"""Source root of the engine.

The engine process has this folder alone on its PYTHONPATH. The Scipion side imports from here only
`vaegan_engine.contract`, `errors`, `palette`, `presets` and `results`, which need no torch.
"""
