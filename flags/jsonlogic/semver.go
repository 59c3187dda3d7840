package jsonlogic

import (
	"cmp"
	"fmt"
	"strings"
)

// semVer is flagd's sem_ver: two versions with an operator between them. Invalid operands yield nil.
func semVer(_ *run, in operands, _ any) (any, error) {
	if len(in.items) != 3 {
		return nil, nil
	}
	a, ok := versionOf(in.items[0])
	if !ok {
		return nil, nil
	}
	b, ok := versionOf(in.items[2])
	if !ok {
		return nil, nil
	}
	switch in.items[1] {
	case "=":
		return a.compare(b) == 0, nil
	case "!=":
		return a.compare(b) != 0, nil
	case "<":
		return a.compare(b) < 0, nil
	case "<=":
		return a.compare(b) <= 0, nil
	case ">":
		return a.compare(b) > 0, nil
	case ">=":
		return a.compare(b) >= 0, nil
	case "^":
		return a.parts[0] == b.parts[0], nil
	case "~":
		return a.parts[0] == b.parts[0] && a.parts[1] == b.parts[1], nil
	}
	return nil, nil
}

// version is a semantic version 2.0.0, or the beginning of one: 1, 1.2. A leading v or V is allowed.
type version struct {
	parts      [3]string // decimal, without leading zeros
	prerelease string    // without the hyphen
}

func versionOf(v any) (version, bool) {
	s, ok := v.(string)
	if !ok {
		if !isNumber(v) {
			return version{}, false
		}
		s = fmt.Sprint(v)
	}
	if bare, ok := strings.CutPrefix(s, "v"); ok {
		s = bare
	} else {
		s = strings.TrimPrefix(s, "V")
	}
	return parseVersion(s)
}

func parseVersion(s string) (v version, ok bool) {
	for i := range v.parts {
		digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
		if digits == 0 || digits > 1 && s[0] == '0' {
			return version{}, false
		}
		v.parts[i], s = s[:digits], s[digits:]
		if i == 2 {
			break
		}
		if s == "" {
			for i++; i < 3; i++ {
				v.parts[i] = "0"
			}
			return v, true
		}
		if s[0] != '.' {
			return version{}, false
		}
		s = s[1:]
	}
	s, build, ok := strings.Cut(s, "+")
	if ok && !areIdentifiers(build, false) {
		return version{}, false
	}
	if s == "" {
		return v, true
	}
	v.prerelease = s[1:]
	return v, s[0] == '-' && areIdentifiers(v.prerelease, true)
}

// areIdentifiers reports whether s is a series of dot-separated identifiers; if strict, numbers have no leading zeros.
func areIdentifiers(s string, strict bool) bool {
	for id := range strings.SplitSeq(s, ".") {
		if id == "" || strict && len(id) > 1 && id[0] == '0' && isDecimal(id) {
			return false
		}
		for i := range len(id) {
			c := id[i]
			if c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
				return false
			}
		}
	}
	return true
}

func isDecimal(s string) bool { return strings.Trim(s, "0123456789") == "" }

// compare orders versions by their precedence.
func (v version) compare(w version) int {
	for i := range v.parts {
		if c := compareDecimals(v.parts[i], w.parts[i]); c != 0 {
			return c
		}
	}
	switch {
	case v.prerelease == w.prerelease:
		return 0
	case v.prerelease == "":
		return 1
	case w.prerelease == "":
		return -1
	}
	return comparePrereleases(v.prerelease, w.prerelease)
}

func compareDecimals(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// comparePrereleases compares by the first identifiers that differ: numbers come before words, and shorter series
// before longer ones.
func comparePrereleases(a, b string) int {
	for {
		identifierA, restA, moreA := strings.Cut(a, ".")
		identifierB, restB, moreB := strings.Cut(b, ".")
		if identifierA != identifierB {
			return compareIdentifiers(identifierA, identifierB)
		}
		switch {
		case !moreA:
			return -1
		case !moreB:
			return 1
		}
		a, b = restA, restB
	}
}

func compareIdentifiers(a, b string) int {
	switch numberA, numberB := isDecimal(a), isDecimal(b); {
	case numberA && numberB:
		return compareDecimals(a, b)
	case numberA:
		return -1
	case numberB:
		return 1
	}
	return strings.Compare(a, b)
}
