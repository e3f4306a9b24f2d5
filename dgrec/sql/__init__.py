"""SQL over sessions: the views, and the library of views and macros on top of them."""
