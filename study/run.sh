#!/bin/sh
# run.sh PAGE [--set KEY=VALUE ...]: train the trials of the study's sweeps that are not
# done, and write PAGE from the store. Of the environment: STUDY_DATA, STUDY_WORDS and
# STUDY_BPE, the prepared datasets; STUDY_STORE; JOBS, the number of runs at a time,
# each with one thread.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
page=$1
shift
mkdir -p "$(dirname "$page")"
page=$(realpath "$(dirname "$page")")/$(basename "$page")
store=$(realpath -m "$STUDY_STORE")
train() {
	file=$1 data=$2
	shift 2
	koala-lm sweep "$here/$file.yaml" "$@" --data "$data" --store "$store" --jobs "$JOBS" --threads 1 --format csv >/dev/null
}
train gpt-char "$STUDY_DATA" "$@"
train llama-bpe "$STUDY_BPE" "$@"
train lstm-words "$STUDY_WORDS" "$@"
(
	cat "$here/preface.md"
	cd "$(dirname "$page")" # the page names its pictures from there
	for sweep in GPT-char LLaMA-BPE LSTM-words; do
		echo
		koala-lm report sweep "$sweep" --store "$store" --reach AdamW --format md --plots "$(basename "$page" .md)"
	done
) >"$page.new"
mv "$page.new" "$page"
echo "$page" >&2
