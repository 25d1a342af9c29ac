// Command bench measures Eider beside what it is made of: raw fsyncs, the
// driver, a bare HTTP handler. It starts real servers, as child processes, on
// temporary folders, and prints one table.
//
// Each ratio compares two figures of the same run on the same disk; an absolute
// figure says as much about the machine as about the code. A group of rows is a
// file of its own and a line in groups. See docs/benchmarks.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"

	"github.com/eiderdb/eider/bench/bare"
)

// group is a part of the table that can be run alone.
type group struct {
	name string
	run  func(context.Context, *bench) error
}

func groups() []group {
	return []group{
		{"create", benchCreate},
		{"kernel", benchKernel},
		{"change", benchChange},
		{"refuse", benchRefuse},
		{"read", benchRead},
		{"pipeline", benchPipeline},
		{"start", benchStart},
		{"files", benchFiles},
		{"tables", benchTables},
		{"recovery", benchRecovery},
		{"plugins", benchPlugins},
		{"hostile", benchHostile},
		{"sinks", benchSinks},
	}
}

// bareCommand makes this program the bare handler that the pipeline is compared
// with: its processor time must be told from that of the clients.
const bareCommand = "bare"

func main() {
	if len(os.Args) == 2 && os.Args[1] == bareCommand {
		exit(bare.Serve(os.Stdin, os.Stdout))
	}
	o := options{scale: whole, out: os.Stdout, progress: os.Stderr}
	only := flag.String("run", "", "run the groups that this regular expression matches")
	short := flag.Bool("quick", false, "shorter runs and fewer rows: to see that it works, not to quote")
	flag.StringVar(&o.json, "json", "", "write the rows to this file as JSON, too")
	flag.StringVar(&o.dir, "dir", "", "where the servers' folders are made; its disk is what is measured (the system's folder for temporary files)")
	flag.StringVar(&o.eider, "eider", "", "an eider binary to measure (built from this tree if empty)")
	flag.StringVar(&o.compare, "compare", "", "a build of bench/compare, which measures other hosts of policies (built from this tree if empty)")
	flag.Parse()
	if *short {
		o.scale = quick
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil || flag.NArg() > 0 {
		exit(errors.Join(err, errors.New("usage: bench [-run regexp] [-quick] [-json file] [-dir folder] [-eider binary] [-compare binary]")))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, o))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

type options struct {
	scale
	only          *regexp.Regexp
	json          string
	dir           string
	eider         string
	compare       string
	out, progress io.Writer
}

// run measures the groups that were asked for. What was measured before a
// failure is printed all the same.
func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp(o.dir, "eider-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{options: o, dir: dir}
	if b.eider == "" {
		b.eider = filepath.Join(dir, "eider")
		if err := build(ctx, b.eider); err != nil {
			return err
		}
	}
	var failed []error
	for _, g := range groups() {
		if !o.only.MatchString(g.name) || ctx.Err() != nil {
			continue
		}
		fmt.Fprintf(o.progress, "%s ...\n", g.name)
		b.table.group = g.name
		if err := errors.Join(g.run(ctx, b), b.clear()); err != nil {
			failed = append(failed, fmt.Errorf("group %s: %w", g.name, err))
		}
	}
	fmt.Fprintln(o.out, machine(dir))
	fmt.Fprintln(o.out)
	failed = append(failed, b.table.write(o.out))
	if o.json != "" {
		failed = append(failed, b.table.save(o.json))
	}
	return errors.Join(failed...)
}
