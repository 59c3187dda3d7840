package main

import (
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var (
	listensOn     = regexp.MustCompile(`listening on (http://\S+)`)
	confirmedForm = regexp.MustCompile(`method="post" action="([^"]*)"`)
	hiddenInput   = regexp.MustCompile(`type="hidden" name="([^"]*)" value="([^"]*)"`)
	namedFile     = regexp.MustCompile(`@(\w+)`)
)

// form LOG PATH FILE: loads the second step of a console's form, confirms it if the page offers that, and writes the
// page that comes then to the file. LOG has the address that serve printed; @NAME in the path is what file NAME has.
func form(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: form LOG PATH FILE")
	}
	address := listensOn.FindStringSubmatch(ts.ReadFile(args[0]))
	if address == nil {
		ts.Fatalf("%s has no address", args[0])
	}
	path := namedFile.ReplaceAllStringFunc(args[1], func(name string) string {
		return strings.TrimSpace(ts.ReadFile(name[1:]))
	})
	read := func(w *http.Response, err error) (page string, ready bool) {
		ts.Check(err)
		defer w.Body.Close()
		body, err := io.ReadAll(w.Body)
		ts.Check(err)
		return string(body), w.StatusCode != http.StatusServiceUnavailable
	}
	page, ready := read(http.Get(address[1] + path)) //nolint:gosec,noctx // an address of the test's own
	for end := time.Now().Add(eventuallyTimeout); !ready && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		page, ready = read(http.Get(address[1] + path)) //nolint:gosec,noctx // as above; nothing is read yet
	}
	if to := confirmedForm.FindStringSubmatch(page); to != nil {
		values := url.Values{}
		for _, input := range hiddenInput.FindAllStringSubmatch(page, -1) {
			values.Set(input[1], html.UnescapeString(input[2]))
		}
		page, _ = read(http.PostForm(address[1]+html.UnescapeString(to[1]), values)) //nolint:gosec,noctx // as above
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(page), 0o600))
}
