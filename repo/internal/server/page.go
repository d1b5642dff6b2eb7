package server

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"

	"stork/repo"
)

//go:embed page.html
var pageFiles embed.FS

// page is parsed once; a test shows that it can be.
func pageTemplate() (*template.Template, error) { return template.ParseFS(pageFiles, "page.html") }

type pageData struct {
	Root       repo.Digest
	URL        string
	Publishers []pagePublisher
}

type pagePublisher struct {
	Name  repo.Publisher
	Owner bool
	Pin   repo.Digest
}

// servePage shows people what this repository is and how to use it.
func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	b, err := s.page(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", revalidate)
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	header.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(b) // a client that went away is no error of ours
}

func (s *Server) page(r *http.Request) ([]byte, error) {
	metadata, err := s.home.Metadata()
	if err != nil {
		return nil, err
	}
	delegations, err := metadata.Delegations()
	if err != nil {
		return nil, err
	}
	data := pageData{Root: s.home.Root, URL: "http://" + r.Host}
	for _, d := range delegations {
		data.Publishers = append(data.Publishers, pagePublisher{Name: d.Role.Publisher(), Owner: d.Role.IsOwner(), Pin: d.Pin})
	}
	t, err := pageTemplate()
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	err = t.Execute(&buf, data)
	return buf.Bytes(), err
}
