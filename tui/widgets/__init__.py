"""What panes are made of. Every text from outside is shown plainly: as `Text`, never as markup."""
