//go:build race

package test

// raced tells whether the tests run with the race detector: then the binary does too.
const raced = true
