// Command canary calls a function with a known vulnerability, GO-2021-0113: a check that does not find it finds
// nothing.
package main

import (
	"fmt"
	"os"

	"golang.org/x/text/language"
)

func main() {
	for _, tag := range os.Args[1:] {
		fmt.Println(language.Parse(tag))
	}
}
