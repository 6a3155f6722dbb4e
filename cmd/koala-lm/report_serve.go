package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/report"
	"github.com/koala-lm/koala-lm/tracking"
)

type reportServeOptions struct {
	*reportOptions
	selection
	addr  string
	token string
}

func newReportServeCmd(shared *reportOptions) *cobra.Command {
	opts := &reportServeOptions{reportOptions: shared}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the page of runs, live while they train",
		Long: `Serve the page that report html writes, live: tables, curves and details follow the
runs while they train. It only reads. Ctrl-C ends it.

By default only this machine can open the page. With another --addr, the page needs
a token, which is part of the printed address; traffic is not encrypted.

` + whereHelp,
		Example: `  koala-lm report serve
  koala-lm report serve --where "'sweep:lr' in tags" --limit 0
  koala-lm report serve --addr 0.0.0.0:8080`,
		RunE: func(cmd *cobra.Command, _ []string) error { return asUsage(runReportServe(cmd.Context(), opts)) },
	}
	opts.selection.addFlags(cmd, 500)
	cmd.Flags().StringVar(&opts.addr, "addr", "127.0.0.1:7007", "listen on this `host:port`; port 0 picks a free one")
	cmd.Flags().StringVar(&opts.token, "token", "", "require this `token` in the address (default: a random one unless only this machine can connect)")
	return cmd
}

func runReportServe(ctx context.Context, opts *reportServeOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(opts.addr)
	if err != nil {
		return usagef("--addr must be host:port, such as 127.0.0.1:7007, not %q", opts.addr)
	}
	store, err := opts.open()
	if err != nil {
		return err
	}
	defer store.Close()
	// A wrong filter is reported at the start, not at the first request.
	if _, err := store.Values(ctx, opts.query(), tracking.Name{Key: "id"}); err != nil {
		return err
	}
	if ip := net.ParseIP(host); opts.token == "" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		opts.token = rand.Text()
	}
	listener, err := net.Listen("tcp", opts.addr)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	site := &report.Server{Store: store, Query: opts.query(), Token: opts.token, Every: time.Second}
	// Event streams stay open: they must end with the command.
	server := &http.Server{Handler: site.Handler(), ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx }}
	address := url.URL{Scheme: "http", Host: listener.Addr().String(), Path: "/"}
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		if name, err := os.Hostname(); err == nil {
			address.Host = net.JoinHostPort(name, strconv.Itoa(tcp.Port))
		}
	}
	if opts.token != "" {
		address.RawQuery = url.Values{"token": {opts.token}}.Encode()
	}
	fmt.Fprintln(opts.app.io.Out, address.String())
	opts.app.notef("serving %s; Ctrl-C ends it", store.Path())
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
