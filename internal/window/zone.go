package window

import (
	"archive/zip"
	_ "embed"
	"fmt"
	"io"
	"strings"
	"time"
)

// zoneinfo is lib/time/zoneinfo.zip of the Go toolchain. The program carries it, and does not read the machine's data:
// time.LoadLocation asks the machine first, so that a repository would be valid on one machine and not on another.
//
//go:embed zoneinfo.zip
var zoneinfo string

// maxZone bounds a zone's data, in bytes.
const maxZone = 64 << 10

// LoadZone returns the zone of an IANA name, the same on every machine; an empty name means UTC. Local is refused,
// since it differs by machine.
func LoadZone(name string) (*time.Location, error) {
	if name == "" || name == "UTC" {
		return time.UTC, nil
	}
	unknown := fmt.Errorf("unknown zone %.60q: name an IANA zone such as Europe/Berlin", name)
	all, err := zip.NewReader(strings.NewReader(zoneinfo), int64(len(zoneinfo)))
	if err != nil {
		return nil, fmt.Errorf("read the time zones: %w", err)
	}
	file, err := all.Open(name)
	if err != nil {
		return nil, unknown
	}
	defer file.Close() //nolint:errcheck // read only
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, unknown
	}
	data, err := io.ReadAll(io.LimitReader(file, maxZone))
	if err != nil {
		return nil, fmt.Errorf("read the time zone %s: %w", name, err)
	}
	return time.LoadLocationFromTZData(name, data)
}
