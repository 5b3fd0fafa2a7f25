"""What panes ask: experiments' state, the store, the clipboard, remembered settings, the GPU."""
