// Package ui has what the pages of the console and those of a cell's owner are made of: the frame of a page, its style,
// script and icon, the marks of states, tables, forms, differences of files, and charts.
//
// It knows nothing of channels, releases or cells, and writes everything with package markup, so that text from outside
// can neither run, load nor deceive. A state is always a shape, a word and a colour. Equal input renders equally. The
// package is pure, and everything in it may be called at once.
package ui
