"""
The console: what the whole group publishes, kept in bounded memory and shown on web pages.

It reads the log as any consumer could: it belongs to no group, commits nothing and writes nothing.
`follower` reads topics in threads, `store` keeps what they contain, `views` is the JSON API, and
`web`, which alone needs the extra `console`, serves both the API and the pages in `static`.
"""
