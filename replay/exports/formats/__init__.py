"""The formats, a file for each: what `dgrec.replay.exports.format.registered` is given."""
