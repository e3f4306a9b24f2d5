"""What is drawn on a frame besides its overlay; nothing here reads files.

==========  ====================================================================
painting    a painter: something that changes a picture; sizes
lettering   text, drawn fast
neighbours  what was recorded around a frame
hud         timing, burnt in
trails      the paths of tracks
labels      labels that options name
redaction   covers what was detected
==========  ====================================================================
"""
