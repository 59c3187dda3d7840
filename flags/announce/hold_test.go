package announce

import "testing"

// R43: a hold counts before publication only, in entry channels as well.
func TestHoldAfterPublication(t *testing.T) {
	const hold = "apiVersion: sluice/v1\nkind: Hold\nannouncement: news\nreason: no docs\n"
	for name, cells := range map[string]string{"all cells": "", "some cells": "cells: {names: [s1, d1]}\n"} {
		w := newWorld(t)
		w.putFiles(newsFile, newsYAML()).approve("news", "ada").planUntilSettled()
		w.putFiles("overrides/hold-news.yaml", hold+cells)
		if v := w.variant(w.planUntilSettled(), "s1", "x"); v != "off" {
			t.Errorf("%s: held before publication, s1 has %s", name, v)
		}
		w.putFiles("overrides/hold-news.yaml", "").planUntilSettled()
		w.advanceTo(noon()).planUntilSettled()
		w.putFiles("overrides/hold-news.yaml", hold+cells)
		p := w.planUntilSettled()
		for _, cell := range []string{"s1", "d1", "d2"} {
			if v := w.variant(p, cell, "x"); v != "on" {
				t.Errorf("%s: held after publication, %s has %s", name, cell, v)
			}
		}
	}
}
