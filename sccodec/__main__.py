"""python -m sccodec"""

from sccodec.cli import main

main()
