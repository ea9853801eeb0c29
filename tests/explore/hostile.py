"""What a variant or a model may write to fool whoever looks."""

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202egnp.exe\u200b\r\x08\x00"
MARKUP = "[bold red]fooled[/] [link=http://evil]click[/link] [/nothing]"
TEXT = f"a\tb\nc {ESCAPES} {MARKUP} $\\alpha_{{$ \U0001f600 \ud800"
FORBIDDEN = "\x1b\x07\x08\x00\x9b\r\u202e\u200b\ud800"
