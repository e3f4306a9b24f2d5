"""What recordings measured: tables, charts of text, and why the rate is what it is.

=========  =====================================================================
summary    one recording in numbers
questions  the SQL of `dgrec stats`, made of the library
why        what limited the rate, in sentences
caveats    what has to be known before numbers are believed
charts     a histogram and a time line in the terminal
follow     the numbers of a recording that is still going on
cli        `dgrec stats`
=========  =====================================================================
"""
