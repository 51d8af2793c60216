"""The config: composing it, checking our keys, building what `_target_` names."""
