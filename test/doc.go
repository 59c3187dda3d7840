// Package test holds what is true of the whole module rather than of one package: which way
// imports go, and that each package says what it is for. It is only tests; nothing imports it.
package test
