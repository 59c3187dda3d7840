package cli

import (
	"bytes"
	"context"
	"fmt"
	"time"
)

// Render returns v as -o names it; draw draws the table.
func Render(a *App, v any, draw func(Printer)) (string, error) {
	if a.Output != AsTable {
		encoded, err := EncodeAs(a.Output, v)
		return string(encoded), err
	}
	var b bytes.Buffer
	p := a.Stdout
	p.Writer = &b
	draw(p)
	return b.String(), nil
}

// ShowOrWatch prints what show returns, once or, to watch, again whenever it changes until ctx ends: redrawn in place
// on a terminal, where more says how to see what does not fit, and appended elsewhere.
func ShowOrWatch(a *App, ctx context.Context, watch bool, every time.Duration, more string,
	show func() (string, error)) error {
	before := ""
	for {
		text, err := show()
		inPlace := watch && a.Stdout.Terminal && a.Output == AsTable
		switch {
		case watch && ctx.Err() != nil:
			return nil
		case err != nil && before == "":
			return err
		case err != nil:
			a.Stderr.PrintLine("%v", err)
		case inPlace:
			fmt.Fprint(a.Stdout, "\x1b[H\x1b[2J", a.Stdout.FitScreen(text, more))
			before = text
		case text != before:
			if before != "" && a.Output == AsTable {
				a.Stdout.PrintLine("")
			}
			before = text
			fmt.Fprint(a.Stdout, text)
		}
		if !watch {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}
