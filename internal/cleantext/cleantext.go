// Package cleantext makes text from outside safe to show (R54): on a terminal, in a log, in a message of git, on a page
// and in the output of CI. What a reader's program would obey or hide (control and escape characters, those that change
// the direction of text, invisible ones, bytes that are no UTF-8) is shown as Go escapes it, such as \x1b. Addresses
// lose their credentials. Other text is left as it is, letters of all languages and emoji among it.
//
// Everything that leaves the program passes here, at the place where it leaves. The package is pure, and everything may
// be called at once. Cleaning twice changes nothing.
package cleantext

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Line returns text as one line: line ends and tabs are shown too.
func Line(text string) string { return clean(text, "") }

// Text returns text with its line ends, as \n, and its tabs.
func Text(text string) string { return clean(strings.ReplaceAll(text, "\r\n", "\n"), "\n\t") }

func clean(text, keep string) string {
	if !isClean(text, keep) {
		text = escape(text, keep)
	}
	return hideCredentials(text)
}

func escape(text, keep string) string {
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case !isObeyed(r) || strings.ContainsRune(keep, r):
			b.WriteString(text[:n])
		default:
			b.WriteString(escapeRune(r))
		}
		text = text[n:]
	}
	return b.String()
}

func isClean(text, keep string) bool {
	for i, r := range text {
		if isObeyed(r) && !strings.ContainsRune(keep, r) {
			return false
		}
		if r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)) {
			return false
		}
	}
	return true
}

// isObeyed reports whether programs that show text obey r, or show nothing in its place. The two joiners belong to the
// spelling of some languages and of emoji, and a sign such as U+0600 is visible.
func isObeyed(r rune) bool {
	if r >= ' ' && r <= '~' {
		return false
	}
	const zeroWidthNonJoiner, zeroWidthJoiner = '\u200c', '\u200d'
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) &&
		r != zeroWidthNonJoiner && r != zeroWidthJoiner && !unicode.Is(unicode.Prepended_Concatenation_Mark, r) ||
		r == '\ufffe' || r == '\uffff' // which XML does not allow either
}

func escapeRune(r rune) string {
	switch {
	case r == '\n':
		return `\n`
	case r == '\r':
		return `\r`
	case r == '\t':
		return `\t`
	case r < 0x80:
		return fmt.Sprintf(`\x%02x`, r)
	case r > 0xffff:
		return fmt.Sprintf(`\U%08x`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// JSON returns encoded JSON whose texts have JSON's escapes for what a terminal would obey; the meaning is the same.
func JSON(encoded []byte) []byte {
	return escapeQuoted(encoded, func(r rune) string { // a pair of surrogates, as in RFC 8259, section 7
		high, low := utf16.EncodeRune(r)
		return fmt.Sprintf(`\u%04x\u%04x`, high, low)
	})
}

// LogLine is JSON for a line of a log, whose addresses lose their credentials too.
func LogLine(encoded []byte) []byte { return JSON([]byte(hideCredentials(string(encoded)))) }

// YAML is JSON for encoded YAML, in which such texts are in double quotes.
func YAML(encoded []byte) []byte { return escapeQuoted(encoded, escapeRune) }

func escapeQuoted(encoded []byte, escapeWide func(rune) string) []byte {
	if isClean(string(encoded), "\n\t\r") {
		return encoded
	}
	out := make([]byte, 0, len(encoded)+32)
	for _, r := range string(encoded) { // bytes that are no UTF-8 become U+FFFD
		switch {
		case !isObeyed(r) || r == '\n' || r == '\t' || r == '\r':
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			out = append(out, escapeWide(r)...)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

// credentials matches the beginning of a URL up to the @ after its user, with the characters that a user and a password
// may have in a URL.
var credentials = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[\w.:~!$&'()*+,;=%@-]*@`)
})

func hideCredentials(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	return credentials().ReplaceAllStringFunc(text, hide)
}

// hide removes the credentials from what credentials matched. A user of http is often a token, so it goes too.
func hide(found string) string {
	scheme, rest, _ := strings.Cut(found, "://")
	user, _, _ := strings.Cut(strings.TrimSuffix(rest, "@"), ":")
	if isHTTP(scheme) || user == "" || strings.Contains(user, "@") {
		return scheme + "://"
	}
	return scheme + "://" + user + "@"
}

func cutScheme(address string) (scheme, rest string, ok bool) {
	scheme, rest, ok = strings.Cut(address, "://")
	return scheme, rest, ok && !strings.ContainsFunc(scheme, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("+.-", r))
	})
}

func isHTTP(scheme string) bool {
	return strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")
}

// Address returns the address of a repository or a server without its credentials.
func Address(address string) string {
	scheme, rest, ok := cutScheme(address)
	if !ok {
		return address
	}
	if _, err := url.Parse(address); err != nil { // nothing says where the credentials end: at the last @
		return scheme + "://" + rest[strings.LastIndexByte(rest, '@')+1:]
	}
	if isHTTP(scheme) {
		address, _, _ = strings.Cut(address, "#")
		address, _, _ = strings.Cut(address, "?")
	}
	return hideCredentials(address)
}

// HasCredentials reports whether an address contains a password, or a user where that may be a token.
func HasCredentials(address string) bool {
	scheme, rest, ok := cutScheme(address)
	if !ok {
		return false
	}
	u, err := url.Parse(address)
	if err != nil {
		return strings.Contains(rest, "@")
	}
	_, has := u.User.Password()
	return has || u.User != nil && isHTTP(scheme)
}
