package host

import (
	"archive/tar"
	"bufio"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells/process"
	"github.com/sluice-cd/sluice/releases"
)

// programPath is where the program is in an image.
const programPath = "usr/bin/sluice"

// Limits of what is read.
const (
	maxManifest = 4 << 20   // bytes
	maxLayer    = 1 << 30   // bytes, unpacked
	maxProgram  = 512 << 20 // bytes
	maxLayers   = 128
	maxNested   = 3           // manifests that lead to an image
	idleTimeout = time.Minute // without a byte
)

// reference names an image by digest.
type reference struct {
	registry, repository string
	digest               releases.Digest
}

func (r reference) String() string { return r.registry + "/" + r.repository + "@" + string(r.digest) }

// parseReference reads the name of an image, which must have a digest. A tag beside it says nothing.
func parseReference(text string) (reference, error) {
	repository, version, hasDigest := strings.Cut(text, "@")
	if !hasDigest {
		return reference{}, fmt.Errorf("image %s has no digest, by which alone a machine takes an agent: "+
			"NAME@sha256:…", text)
	}
	digest, err := releases.ParseDigest(version)
	if err != nil {
		return reference{}, fmt.Errorf("image %s: %w", text, err)
	}
	if colon := strings.LastIndexByte(repository, ':'); colon > strings.LastIndexByte(repository, '/') {
		repository = repository[:colon]
	}
	registry, rest, ok := strings.Cut(repository, "/")
	if !ok || !strings.ContainsAny(registry, ".:") && registry != "localhost" { // as Docker reads names
		registry, rest = "docker.io", repository
		if !strings.Contains(rest, "/") {
			rest = "library/" + rest
		}
	}
	if rest == "" || path.Clean(rest) != rest || strings.ContainsAny(rest, `?#%\ `) {
		return reference{}, fmt.Errorf("image %s: %q is no repository", text, rest)
	}
	return reference{registry, rest, digest}, nil
}

// noProgramError says that an image is no agent for this machine.
type noProgramError struct{ reason string }

func (e *noProgramError) Error() string { return e.reason }

func noProgram(format string, args ...any) error {
	return &noProgramError{fmt.Sprintf(format, args...)}
}

// puller reads the program of an image.
type puller struct {
	to  http.RoundTripper
	ref reference
}

// document is an index of images, or an image's manifest.
type document struct{ Manifests, Layers []descriptor }

type descriptor struct {
	MediaType string
	Digest    releases.Digest
	Platform  struct{ OS, Architecture string } // in an index
}

// isForThisMachine reports whether a program of an image runs here.
func (d descriptor) isForThisMachine() bool {
	return d.Platform.OS == runtime.GOOS && d.Platform.Architecture == runtime.GOARCH
}

// pull writes the program. Nothing of what it wrote counts before it returned nil.
func (p *puller) pull(ctx context.Context, w io.Writer) error {
	digest := p.ref.digest
	var d document
	for range maxNested {
		text, err := p.readManifest(ctx, digest)
		if err != nil {
			return err
		}
		d = document{}
		if err := json.Unmarshal(text, &d); err != nil {
			return noProgram("the manifest %s can't be read: %v", digest, err)
		}
		if len(d.Manifests) == 0 {
			break
		}
		at := slices.IndexFunc(d.Manifests, descriptor.isForThisMachine)
		if at < 0 {
			return noProgram("image %s is not for %s/%s, as this machine is", p.ref, runtime.GOOS, runtime.GOARCH)
		}
		digest = d.Manifests[at].Digest
	}
	if len(d.Layers) > maxLayers {
		return noProgram("image %s has more than %d layers", p.ref, maxLayers)
	}
	for _, layer := range slices.Backward(d.Layers) {
		found, err := p.readLayer(ctx, layer.MediaType, layer.Digest, w)
		if err != nil {
			return fmt.Errorf("layer %s: %w", layer.Digest, err)
		}
		if found {
			return nil
		}
	}
	return noProgram("image %s has no /%s", p.ref, programPath)
}

func (p *puller) readManifest(ctx context.Context, digest releases.Digest) ([]byte, error) {
	body, err := p.open(ctx, "manifests", digest)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(body, maxManifest+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxManifest:
		return nil, noProgram("the manifest %s is larger than %d bytes", digest, maxManifest)
	case releases.DigestBytes(text) != digest:
		return nil, fmt.Errorf("what came for %s has another digest", digest)
	}
	return text, nil
}

// readLayer writes the program if a layer has it. Its bytes are those of the layer's digest once it returned nil.
func (p *puller) readLayer(ctx context.Context, mediaType string, digest releases.Digest, w io.Writer) (bool, error) {
	body, err := p.open(ctx, "blobs", digest)
	if err != nil {
		return false, err
	}
	defer func() { _ = body.Close() }() // only read
	sum := sha256.New()
	raw := io.TeeReader(io.LimitReader(body, maxLayer), sum)
	var content io.Reader = bufio.NewReaderSize(raw, 64<<10)
	switch {
	case strings.HasSuffix(mediaType, "gzip"):
		if content, err = gzip.NewReader(content); err != nil {
			return false, err
		}
	case !strings.HasSuffix(mediaType, ".tar"):
		return false, noProgram("its kind, %.80q, is neither tar nor gzip", mediaType)
	}
	unpacked := &io.LimitedReader{R: content, N: maxLayer}
	found, err := extract(unpacked, w)
	if err == nil { // the rest counts for the digest
		_, err = io.Copy(io.Discard, unpacked)
	}
	if err == nil && unpacked.N == 0 {
		err = noProgram("it is larger than %d bytes", maxLayer)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, raw)
	}
	if err == nil && releases.DigestFromSum(sum.Sum(nil)) != digest {
		err = errors.New("what came has another digest")
	}
	return found, err
}

// extract writes the program if an archive has it.
func extract(archive io.Reader, w io.Writer) (found bool, err error) {
	removed, gone := whiteouts(programPath), false // of the layers below
	for files := tar.NewReader(archive); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) && gone && !found {
			return false, noProgram("it removes /%s", programPath)
		}
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return false, err
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		switch {
		case slices.Contains(removed, name),
			h.Typeflag != tar.TypeDir && strings.HasPrefix(programPath, name+"/"): // in the place of a folder
			gone = true
			continue
		case name != programPath:
			continue
		case h.Typeflag != tar.TypeReg || found:
			return false, noProgram("/%s is no plain file, or there twice", programPath)
		case h.Size > maxProgram:
			return false, noProgram("/%s is larger than %d bytes", programPath, maxProgram)
		}
		if _, err := io.Copy(w, files); err != nil { //nolint:gosec // bounded by the entry's size
			return false, err
		}
		found = true
	}
}

// whiteouts returns the entries by which a layer removes a file of the layers below: the file itself, one of its
// folders, or all that was in one.
func whiteouts(file string) (names []string) {
	for at := file; at != "."; at = path.Dir(at) {
		folder, name := path.Dir(at), path.Base(at)
		names = append(names, path.Join(folder, ".wh."+name), path.Join(folder, ".wh..wh..opq"))
	}
	return names
}

// open asks for content by its digest.
func (p *puller) open(ctx context.Context, kind string, digest releases.Digest) (io.ReadCloser, error) {
	if _, err := releases.ParseDigest(string(digest)); err != nil {
		return nil, noProgram("image %s names %.80q: %v", p.ref, digest, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	idle := time.AfterFunc(idleTimeout, func() { cancel(fmt.Errorf("nothing came for %s", idleTimeout)) })
	at := url.URL{Scheme: "https", Host: "control-plane", // the transport replaces both
		Path:     "/v2/" + p.ref.repository + "/" + kind + "/" + string(digest),
		RawQuery: url.Values{"ns": {p.ref.registry}}.Encode()}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	var answer *http.Response
	if err == nil {
		r.Header.Set("Accept", strings.Join([]string{"application/vnd.oci.image.index.v1+json",
			"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
			"application/vnd.docker.distribution.manifest.v2+json"}, ", "))
		answer, err = p.to.RoundTrip(r)
	}
	if err != nil {
		err = cmp.Or(context.Cause(ctx), err)
		idle.Stop()
		cancel(nil)
		return nil, err
	}
	body := &watchedBody{answer.Body, ctx, idle, cancel}
	if answer.StatusCode != http.StatusOK {
		return nil, refusal(answer.Status, body)
	}
	return body, nil
}

// refusal returns why the control plane does not serve content.
func refusal(status string, body io.ReadCloser) error {
	said := process.NewTail(300)
	_, _ = io.CopyN(said, body, 4<<10) // it is said as far as it came
	_ = body.Close()
	return fmt.Errorf("the control plane answers %s: %s: serve --registries must name the image's registry "+
		"(docs/images.md)", status, said.LastLine(300))
}

// watchedBody ends when nothing comes any more.
type watchedBody struct {
	io.ReadCloser
	ctx    context.Context
	idle   *time.Timer
	cancel context.CancelCauseFunc
}

func (b *watchedBody) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	b.idle.Reset(idleTimeout)
	if err != nil && !errors.Is(err, io.EOF) {
		err = cmp.Or(context.Cause(b.ctx), err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.idle.Stop()
	b.cancel(nil)
	return b.ReadCloser.Close()
}
