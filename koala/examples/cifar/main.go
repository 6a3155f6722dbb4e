// Command cifar trains ResNet-18 on CIFAR-10, CIFAR-100 or ImageNet32 as the authors of
// KOALA do (Davtyan et al., AAAI 2022), with any optimizer of package koala. README.md
// says how to use it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// options are the flags.
type options struct {
	data, optim, device           string
	lr, weightDecay, gamma        float64
	epochs, warmup, batch, steps  int
	width, seed, threads, printed int
}

func main() {
	var o options
	flag.StringVar(&o.data, "data", "", "`folder` with the files of CIFAR-10, CIFAR-100 or ImageNet32")
	flag.StringVar(&o.optim, "optim", spec.KoalaV.Name, "optimizer: koala-v, koala-m, sgd, adam, or another one of package koala")
	flag.Float64Var(&o.lr, "lr", 0, "learning rate; 0 is the authors' (1 for KOALA, 0.01 for sgd, 0.001 for adam)")
	flag.Float64Var(&o.weightDecay, "weight-decay", 5e-4, "weight decay")
	flag.IntVar(&o.epochs, "epochs", 100, "passes over the train images")
	flag.IntVar(&o.warmup, "warmup", 0, "epochs in which the learning rate rises from 0")
	flag.Float64Var(&o.gamma, "gamma", 0.2, "factor of the learning rate at each of the schedule's steps; 1 is no schedule")
	flag.IntVar(&o.batch, "batch", 128, "images in a step")
	flag.IntVar(&o.steps, "steps", 0, "end each epoch after so many steps; 0 is no limit")
	flag.IntVar(&o.width, "width", 64, "channels of the first stage; 64 is ResNet-18")
	flag.IntVar(&o.seed, "seed", 42, "seed of weights, order and augmentation")
	flag.IntVar(&o.threads, "threads", 0, "threads of an operator; 0 is all cores")
	flag.StringVar(&o.device, "device", "auto", "cpu, cuda, cuda:N or auto")
	flag.IntVar(&o.printed, "print", 50, "steps between two lines about the train images")
	flag.Parse()
	if flag.NArg() > 0 || o.data == "" {
		fmt.Fprintln(os.Stderr, "cifar: give the folder of the dataset as --data DIR, and no other argument; --help lists the flags")
		os.Exit(2)
	}
	if err := torch.Main(o.threads, func() error { return train(o, os.Stdout) }); err != nil {
		fmt.Fprintln(os.Stderr, "cifar:", err)
		os.Exit(1)
	}
}

// authors are the settings of the authors' script that differ from the defaults of
// package koala.
var authors = map[*spec.Kind]map[string]any{spec.SGD: {"lr": 0.01, "momentum": 0.9}}

// milestones are the schedules of the authors, by the number of epochs: the epochs at
// which the learning rate falls.
func milestones(epochs int, d dataset) []int {
	switch {
	case epochs == 200 && d.name == "CIFAR-10":
		return []int{150}
	case epochs == 200:
		return []int{60, 120, 160}
	}
	return []int{epochs * 3 / 10, epochs * 6 / 10, epochs * 9 / 10}
}

// factor is the schedule's factor on the learning rate.
func (o options) factor(d dataset, epoch, step, perEpoch int) float64 {
	if done, warm := epoch*perEpoch+step, o.warmup*perEpoch; done < warm {
		return float64(done) / float64(warm)
	}
	f := 1.0
	for _, m := range milestones(o.epochs, d) {
		if epoch >= m {
			f *= o.gamma
		}
	}
	return f
}

func train(o options, out io.Writer) error {
	kind, err := spec.Lookup(o.optim)
	if err != nil {
		return fmt.Errorf("--optim: %w", err)
	}
	if o.batch < 1 || o.epochs < 1 || o.width < 1 || o.printed < 1 || o.warmup < 0 || o.steps < 0 || !(o.weightDecay >= 0) || !(o.gamma > 0) {
		return errors.New("--batch, --epochs, --width, --print and --gamma must be above 0, --warmup, --steps and --weight-decay not below")
	}
	device, err := torch.ParseDevice(o.device)
	if err != nil {
		return fmt.Errorf("--device: %w", err)
	}
	d, images, test, err := open(o.data)
	if err != nil {
		return err
	}
	perEpoch := len(images.labels) / o.batch
	if perEpoch == 0 {
		return fmt.Errorf("--batch %d: %s has %d train images here, fewer than a batch", o.batch, d.name, len(images.labels))
	}
	if o.steps > 0 {
		perEpoch = min(perEpoch, o.steps)
	}
	source := rand.NewPCG(uint64(o.seed), 0)
	net, err := newResNet(int64(o.width), int64(d.classes), gotch.Float, device, random(rand.New(source)))
	if err != nil {
		return err
	}
	defer net.free()
	values := authors[kind]
	if o.lr != 0 {
		values = map[string]any{"lr": o.lr}
		for key, v := range authors[kind] {
			if key != "lr" {
				values[key] = v
			}
		}
	}
	opt, err := koala.New(kind, values, []koala.Group{{Params: net.params, WeightDecay: o.weightDecay}})
	if err != nil {
		return err
	}
	defer opt.Close()
	fmt.Fprintf(out, "%s: %d train and %d test images, %s on %s\n", d.name, len(images.labels), len(test.labels), kind, torch.DeviceName(device))
	for epoch := range o.epochs {
		r := rand.New(rand.NewPCG(uint64(o.seed), uint64(epoch)+1))
		order := r.Perm(len(images.labels))
		loss := 0.0
		for step := range perEpoch {
			b := images.batch(d, order[step*o.batch:(step+1)*o.batch], r)
			m, info, err := net.step(opt, b, o.factor(d, epoch, step, perEpoch))
			if err != nil {
				return err
			}
			if info.NonFinite {
				return fmt.Errorf("epoch %d, step %d: the loss or a gradient is not finite; lower --lr", epoch+1, step+1)
			}
			loss += m.Loss / float64(perEpoch)
			if step%o.printed == 0 {
				fmt.Fprintf(out, "epoch %d of %d, step %d of %d: loss %.4f\n", epoch+1, o.epochs, step+1, perEpoch, m.Loss)
			}
		}
		score, err := net.score(test, d, 2*o.batch)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "epoch %d of %d: train loss %.4f, test loss %.4f, error %.2f%% (top 5: %.2f%%)\n",
			epoch+1, o.epochs, loss, score.loss, 100*score.first, 100*score.five)
	}
	return nil
}

// step makes one step of training, in the authors' order. KOALA's measurement is the
// mean loss and the mean squared loss of the images.
func (n *resNet) step(opt koala.Optimizer, b batch, factor float64) (koala.Measurement, koala.StepInfo, error) {
	var m koala.Measurement
	if err := opt.Predict(); err != nil {
		return m, koala.StepInfo{}, err
	}
	err := torch.Do(func(s *torch.Scope) error {
		x, y := n.toDevice(s, b)
		losses := s.CrossEntropies(n.forward(s, x, true), y)
		loss := s.Mean(losses)
		m = koala.Measurement{Loss: s.Item(loss), MeanSquare: s.Item(s.Mean(s.Square(losses)))}
		s.Backward(loss)
		return nil
	})
	if err != nil {
		return m, koala.StepInfo{}, err
	}
	opt.SetLR(factor)
	info, err := opt.Update(m)
	if err != nil {
		return m, info, err
	}
	return m, info, opt.ZeroGrad()
}

// toDevice returns a batch's images and labels as tensors, of the network's type and on
// its device.
func (n *resNet) toDevice(s *torch.Scope, b batch) (x, y *ts.Tensor) {
	count := int64(len(b.labels))
	x = s.To(torch.FromSlice(s, b.values, count, 3, b.side, b.side), n.weight.DType(), n.device)
	return x, s.To(torch.FromSlice(s, b.labels, count), gotch.Int64, n.device)
}

// A score is the mean loss over images, and the shares of images whose class is not the
// first of the network's guesses, and not among its first five.
type score struct{ loss, first, five float64 }

func (n *resNet) score(m images, d dataset, each int) (score, error) {
	var total score
	all := make([]int, len(m.labels))
	for i := range all {
		all[i] = i
	}
	for at := range slices.Chunk(all, each) {
		err := torch.Do(func(s *torch.Scope) error {
			s.NoGrad(func() {
				b := m.batch(d, at, nil)
				x, y := n.toDevice(s, b)
				logits := n.forward(s, x, false)
				total.loss += s.Item(s.Sum(s.CrossEntropies(logits, y)))
				values := torch.ToSlice[float32](s, logits)
				if !s.OK() {
					return
				}
				for i, label := range b.labels {
					row, better := values[i*d.classes:(i+1)*d.classes], 0
					for _, v := range row {
						if !(v <= row[label]) {
							better++
						}
					}
					if better >= 1 {
						total.first++
					}
					if better >= 5 {
						total.five++
					}
				}
			})
			return nil
		})
		if err != nil {
			return score{}, err
		}
	}
	count := float64(len(m.labels))
	return score{total.loss / count, total.first / count, total.five / count}, nil
}
