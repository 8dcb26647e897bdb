"""A sample that belongs to the project: pictures and films of a playing field, rendered from a seed.

`solids` has the shapes, `camera` the view, `scene` places things, `backdrop` shades carpet and walls, `render` draws a
scene and finds the boxes, `exposure` adds what a real camera does. `project` and `field` write the files.
"""
