package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// loaderCache is what a Loader saves in a file, so that a restart need not read everything again. A file that is
// damaged or of another program counts as missing.
type loaderCache struct {
	Edition  string // of the program that wrote the file: another may fold history in another way
	History  packedHistory
	Cells    []*cells.LoadedCell
	Releases []releases.Entry // those that a decision may need; none with AllReleases
}

// digestKey names a release's folder, and the tree that was hashed.
type digestKey struct{ Version, Tree string }

// releaseCache is what a Loader with AllReleases saves beside its CacheFile: others need not read it.
type releaseCache struct {
	Edition  string
	Releases []releases.Entry
}

const maxCacheSize = 256 << 20

// readCacheFile restores what an earlier process saved.
func (l *Loader) readCacheFile() {
	l.history, l.savedDigests, l.savedReleases = plan.NewHistory(), map[digestKey]bool{}, map[digestKey]bool{}
	var k loaderCache
	if !decodeFile(l.CacheFile, &k) || k.Edition != programEdition() {
		return
	}
	history, digests, ok := k.History.unpack()
	if !ok {
		return
	}
	l.history, l.cacheFileCurrent = history, true
	for key, digest := range digests {
		if v, err := releases.ParseVersion(key.Version); err == nil {
			releases.CacheDigest(l.cache, v, key.Tree, digest)
			l.savedDigests[key] = true
		}
	}
	for _, e := range k.Releases {
		releases.CacheEntry(l.cache, e)
		l.savedReleases[digestKey{e.Version.String(), e.Tree}] = true
	}
	for _, f := range k.Cells {
		for i := range f.Cell.Windows {
			f.Cell.Windows[i].Compile() // neither do Windows in the cache have faults that are not in f
		}
		manifest.Cached(l.cache, f.Cell.Name, f.TreeID, func() *cells.LoadedCell { return f })
	}
}

// writeCacheFile saves what was read, once enough of it is new.
func (l *Loader) writeCacheFile(d *plan.Desired, folded int) {
	const (
		worthIt      = 256      // commits
		worthHashing = 64 << 20 // bytes
		worthReading = 16       // releases
	)
	l.uncachedCommits += folded
	entries, unsaved := l.entriesToSave(d)
	if l.CacheFile == "" || l.uncachedCommits < worthIt && l.cacheFileCurrent && l.unsavedBytes(d) < worthHashing &&
		unsaved < worthReading {
		return
	}
	l.uncachedCommits, l.cacheFileCurrent = 0, true
	digests := map[digestKey]releases.Digest{}
	l.savedDigests, l.savedReleases = map[digestKey]bool{}, map[digestKey]bool{}
	for key, r := range hashedReleases(d) {
		digests[key] = r.Digest
		l.savedDigests[key] = true
	}
	for i := range entries {
		l.savedReleases[digestKey{entries[i].Version.String(), entries[i].Tree}] = true
	}
	k := loaderCache{Edition: programEdition(), History: packHistory(l.history, digests),
		Cells: make([]*cells.LoadedCell, 0, len(d.Cells)), Releases: entries}
	for _, cell := range d.Cells {
		if cell.Found != nil && cell.Found.TreeID != "" {
			k.Cells = append(k.Cells, cell.Found)
		}
	}
	if !encodeFile(l.CacheFile, k) { // gob has no form for a null in a list of a release's defaults
		k.Releases = nil
		encodeFile(l.CacheFile, k)
	}
}

// entriesToSave returns the releases that were read for d, the newest maxSavedReleases, and how many of them the file
// lacks. With AllReleases they go into another file.
func (l *Loader) entriesToSave(d *plan.Desired) (all []releases.Entry, unsaved int) {
	const maxSavedReleases = 256
	if l.AllReleases || l.CacheFile == "" {
		return nil, 0
	}
	for _, r := range slices.Backward(d.Versions) {
		if !r.Loaded || r.Tree == "" {
			continue
		}
		if e, ok := releases.CachedEntry(l.cache, r.Version, r.Tree); ok && survivesGob(e) {
			all = append(all, e)
			if !l.savedReleases[digestKey{e.Version.String(), e.Tree}] {
				unsaved++
			}
		}
		if len(all) == maxSavedReleases {
			break
		}
	}
	return all, unsaved
}

// survivesGob reports whether a release is decoded as it was encoded: gob leaves out what is zero, bounds too.
func survivesGob(e releases.Entry) bool {
	for _, p := range e.Parameters {
		for _, bound := range []*float64{p.Minimum, p.Maximum} {
			if bound != nil && *bound == 0 {
				return false
			}
		}
	}
	return true
}

// releaseCacheFile returns where the releases are saved; empty: nowhere.
func (l *Loader) releaseCacheFile() string {
	if l.CacheFile == "" || !l.AllReleases {
		return ""
	}
	return l.CacheFile + ".releases"
}

// readReleaseCache restores the releases that an earlier process saved, and returns how many these are.
func (l *Loader) readReleaseCache() int {
	var k releaseCache
	if !decodeFile(l.releaseCacheFile(), &k) || k.Edition != programEdition() {
		return 0
	}
	for _, e := range k.Releases {
		releases.CacheEntry(l.cache, e)
	}
	return len(k.Releases)
}

// writeReleaseCache saves the releases of d, once enough of them are new; saved is how many the file has.
func (l *Loader) writeReleaseCache(d *plan.Desired, saved int) {
	const worthIt = 64 // releases
	file := l.releaseCacheFile()
	if file == "" || len(d.Releases) < saved+worthIt {
		return
	}
	k := releaseCache{Edition: programEdition()}
	for _, v := range slices.Sorted(maps.Keys(d.Releases)) {
		r := d.Releases[v]
		if e, ok := releases.CachedEntry(l.cache, r.Version, r.Tree); ok && survivesGob(e) {
			k.Releases = append(k.Releases, e)
		}
	}
	encodeFile(file, k)
}

// decodeFile decodes what encodeFile wrote, and reports whether all of it is there.
func decodeFile(file string, into any) bool {
	if file == "" {
		return false
	}
	info, err := os.Stat(file)
	if err != nil || info.Size() < sha256.Size || info.Size() > maxCacheSize {
		return false
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	sum, body := data[:sha256.Size], data[sha256.Size:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:]) {
		return false
	}
	registerGobTypes()
	return gob.NewDecoder(bytes.NewReader(body)).Decode(into) == nil
}

// encodeFile writes v with its hash before it, and reports whether gob has a form for v. An error is ignored: it costs
// the next process a slower start.
func encodeFile(file string, v any) bool {
	var body bytes.Buffer
	registerGobTypes()
	if err := gob.NewEncoder(&body).Encode(v); err != nil {
		return false
	}
	sum := sha256.Sum256(body.Bytes())
	_ = replaceFile(file, append(sum[:], body.Bytes()...))
	return true
}

// copyHistory copies a history as the cache file would.
func copyHistory(h *plan.History) (*plan.History, error) {
	var body bytes.Buffer
	var c plan.History
	err := gob.NewEncoder(&body).Encode(h)
	if err == nil {
		err = gob.NewDecoder(&body).Decode(&c)
	}
	if err != nil {
		return nil, fmt.Errorf("copy the history: %w", err)
	}
	return c.MakeMaps(), nil
}

// hashedReleases returns the releases of d whose digest is known and has no fault.
func hashedReleases(d *plan.Desired) map[digestKey]*plan.Release {
	all := map[digestKey]*plan.Release{}
	for _, r := range d.Releases {
		if r.Loaded && r.Digest != "" && r.Tree != "" && r.Tombstone == nil {
			all[digestKey{r.Version.String(), r.Tree}] = r
		}
	}
	return all
}

// unsavedBytes returns how many bytes would be hashed again after a restart.
func (l *Loader) unsavedBytes(d *plan.Desired) (bytes int64) {
	for key, r := range hashedReleases(d) {
		if !l.savedDigests[key] {
			bytes += r.Bytes
		}
	}
	return bytes
}

// registerGobTypes registers the types of cells' values, as gob requires; repeated calls are harmless.
func registerGobTypes() {
	gob.Register([]any{})
	gob.Register(map[string]any{})
}

// programEdition identifies the running program by path, size and time, which is enough for a cache.
func programEdition() string {
	file, err := os.Executable()
	if err != nil {
		return ""
	}
	info, err := os.Stat(file)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s %d %d", file, info.Size(), info.ModTime().UnixNano())
}

// replaceFile writes a file whole or not at all. A power cut may lose the file, which is harmless here.
func replaceFile(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	if closing := temp.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		_ = os.Remove(temp.Name())
	}
	return err
}
