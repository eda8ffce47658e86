"""The work folder: the one place the bottle can write that the host's own tools read later.

It is a way out with a delay: an agent that plants a git hook, an editor task or a shell file there has it run on the
host by the user's next `git status`. Three answers, a file each: `check` refuses folders that would open the sandbox at
once, `protect` says what the backend mounts over the folder so that hooks cannot be written, `snapshot` names every
change in what the host would execute once the bottle has ended, and `restore` puts the old text back.

Rule 1: the tree is hostile. No symlink is followed, no FIFO opened, no name printed raw, no loop unbounded.
Rule 2: nothing here runs a program with the work folder as its current folder.
"""
