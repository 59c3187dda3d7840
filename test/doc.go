// Package test holds what is true of the whole module rather than of one package: which way imports go, that each
// package says what it is for, that each fault is held by a test; and the acceptance tests, which run the built
// binary, real git and real processes, and kill them. It is only tests; nothing imports it.
//
// SLUICE_SEED and SLUICE_KILLS choose when, and how often, the kill test kills; it says which seed it took.
package test
