package manifest

// IsLabel reports whether a name is a DNS label: at most 63 lower-case letters, digits and hyphens, and no hyphen at
// either end. Such names may be parts of paths and host names.
func IsLabel(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case c == '-' && i > 0 && i < len(name)-1:
		default:
			return false
		}
	}
	return name != "" && len(name) <= 63
}
