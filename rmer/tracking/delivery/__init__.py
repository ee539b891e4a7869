"""How values reach the store, whatever happens to it: journal, sender, replay."""
