/** A program that does nothing: what starting costs before there is any of ours. */
console.log("line");
