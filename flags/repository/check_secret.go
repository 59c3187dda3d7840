package repository

import (
	"math"
	"regexp"
	"strings"
	"sync"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/jsondoc"
)

// secretPattern matches well-known secrets: PEM blocks, keys of clouds and git hosts, JSON web tokens. It is compiled
// on demand, since agents never need it.
var secretPattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(
		`-----BEGIN |\b(AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|` +
			`\bglpat-[A-Za-z0-9_-]{20,}|\bxox[abeprs]-[A-Za-z0-9-]{10,}|` +
			`\bsk_live_[A-Za-z0-9]{16,}|\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.`,
	)
})

// secretNamePattern matches common names of secrets.
var secretNamePattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(
		`(?i)(^|[_.-])(password|passwd|passphrase|secret|token|credentials?|(api|private|access)[_-]?key)$|` +
			`(Password|Secret|Token|ApiKey|PrivateKey|AccessKey)$`,
	)
})

// checkSecrets warns of values that look like secrets: every reader of flags can read them (R45).
func (l linter) checkSecrets(d *flags.Definition, name string, n jsondoc.Node) {
	switch v := n.Value.(type) {
	case string:
		if len(v) >= 8 && secretNamePattern().MatchString(name) || looksSecret(v) {
			l.Warn(jsondoc.Secret, n.Line,
				"flag %s: %.60q looks like a secret: every reader of flags can see it (R45)",
				d.Key, name)
		}
	case jsondoc.Members:
		for _, m := range v {
			l.checkSecrets(d, m.Key, m.Node)
		}
	case []jsondoc.Node:
		for _, child := range v {
			l.checkSecrets(d, name, child)
		}
	}
}

// looksSecret reports whether s has the form of a secret, or is one long word as random as a token.
func looksSecret(s string) bool {
	const (
		shortest = 20
		long     = 32
		random   = 4.3 // bits a byte: more than a hexadecimal digest can have
	)
	if len(s) < shortest {
		return false
	}
	return secretPattern().MatchString(s) || len(s) >= long && isToken(s, shortest) && entropy(s) > random
}

// isToken reports whether s consists of base64 characters and contains a word of at least longest characters with
// digits, small and large letters.
func isToken(s string, longest int) bool {
	var digit, small, large, found bool
	run := 0
	for i := range len(s) {
		run++
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digit = true
		case c >= 'a' && c <= 'z':
			small = true
		case c >= 'A' && c <= 'Z':
			large = true
		case strings.IndexByte("+/_=-", c) >= 0:
			digit, small, large, run = false, false, false, 0
		default:
			return false
		}
		found = found || run >= longest && digit && small && large
	}
	return found
}

// entropy returns the average bits of information in a byte of s.
func entropy(s string) float64 {
	var counts [256]int
	for i := range len(s) {
		counts[s[i]]++
	}
	bits := 0.0
	for _, n := range counts {
		if n > 0 {
			p := float64(n) / float64(len(s))
			bits -= p * math.Log2(p)
		}
	}
	return bits
}
