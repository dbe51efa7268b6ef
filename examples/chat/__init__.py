"""A chat with several rooms: `python -m examples.chat`.

`frames` is what browser and server say to each other, `presence` knows who is in which room,
`conversation` is one browser tab in one room, `app` the application, and `static` the page: HTML,
CSS and a few modules of JavaScript, without a build step.
"""
