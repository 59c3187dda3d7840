package releases

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// maxVersion bounds the length, in bytes, of a version's text.
const maxVersion = 128

// VersionPattern matches a version, for schemas and messages.
const VersionPattern = `^v?(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`

// Version is [v]N.N.N[-pre], ordered as SemVer orders versions (R12); calendar versions fit. There is no build
// metadata. A Version keeps its text: v1.2.3 and 1.2.3 Compare as 0, but are not ==. The zero value is no version, and
// below all others.
type Version struct {
	major, minor, patch uint64
	pre, text           string
}

// ParseVersion reads a version. It refuses leading zeros in numbers, as SemVer does: 2026.09.0 is not a version.
func ParseVersion(s string) (Version, error) {
	bad := func(why string) (Version, error) {
		return Version{}, fmt.Errorf("%.140q is not a version ([v]N.N.N[-pre]): %s", s, why)
	}
	if len(s) > maxVersion {
		return bad(fmt.Sprintf("it is longer than %d bytes", maxVersion))
	}
	if strings.Contains(s, "+") {
		return bad("build metadata (+…) is not allowed: two builds would tie")
	}
	core, pre, hasPre := strings.Cut(strings.TrimPrefix(s, "v"), "-")
	major, rest, _ := strings.Cut(core, ".")
	minor, patch, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(patch, ".") {
		return bad("it needs three numbers")
	}
	var numbers [3]uint64
	for i, p := range [...]string{major, minor, patch} {
		if !isDigits(p) {
			return bad("each of the three parts must be a number")
		}
		if len(p) > 1 && p[0] == '0' {
			return bad("numbers have no leading zeros")
		}
		n, err := strconv.ParseUint(p, 10, 64)
		if err != nil {
			return bad("a number is too large")
		}
		numbers[i] = n
	}
	if hasPre {
		for id := range strings.SplitSeq(pre, ".") {
			if !isIdentifier(id) {
				return bad("the pre-release consists of letters, digits and hyphens, separated by dots")
			}
			if isDigits(id) && len(id) > 1 && id[0] == '0' {
				return bad("numbers have no leading zeros")
			}
		}
	}
	return Version{numbers[0], numbers[1], numbers[2], pre, s}, nil
}

// Compare orders versions by SemVer 2.0.0, section 11. A leading v makes no difference.
func (v Version) Compare(w Version) int {
	if v.IsZero() || w.IsZero() {
		return cmp.Compare(min(len(v.text), 1), min(len(w.text), 1))
	}
	if c := cmp.Or(cmp.Compare(v.major, w.major), cmp.Compare(v.minor, w.minor),
		cmp.Compare(v.patch, w.patch)); c != 0 {
		return c
	}
	switch {
	case v.pre == w.pre:
		return 0
	case v.pre == "": // a release comes after its pre-releases
		return 1
	case w.pre == "":
		return -1
	}
	return comparePre(v.pre, w.pre)
}

// comparePre compares pre-releases identifier by identifier: numbers numerically and below words; a longer list is
// greater.
func comparePre(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		x, y := as[i], bs[i]
		xn, yn := isDigits(x), isDigits(y)
		c := 0
		switch {
		case xn && yn: // without leading zeros, a longer number is greater, however long
			c = cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y))
		case xn:
			c = -1
		case yn:
			c = 1
		default:
			c = strings.Compare(x, y)
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(as), len(bs))
}

// Equal reports whether v and w have the same text. Whether they tie, Compare decides.
func (v Version) Equal(w Version) bool { return v == w }

func (v Version) Less(w Version) bool { return v.Compare(w) < 0 }

// IsZero reports whether v is no version.
func (v Version) IsZero() bool { return v.text == "" }

// IsPrerelease reports whether v is a pre-release.
func (v Version) IsPrerelease() bool { return v.pre != "" }

// String returns the text that was parsed.
func (v Version) String() string { return v.text }

func (v Version) MarshalText() ([]byte, error) { return []byte(v.text), nil }

// MarshalBinary and UnmarshalBinary are the same for caches.
func (v Version) MarshalBinary() ([]byte, error)     { return v.MarshalText() }
func (v *Version) UnmarshalBinary(data []byte) error { return v.UnmarshalText(data) }

// UnmarshalText is ParseVersion, but takes empty text as the zero Version.
func (v *Version) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*v = Version{}
		return nil
	}
	*v, err = ParseVersion(string(text))
	return err
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func isIdentifier(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-') {
			return false
		}
	}
	return s != ""
}
