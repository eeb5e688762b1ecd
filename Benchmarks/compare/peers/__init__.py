"""One module for each peer.

    PRECISIONS          {precision: what it is, one sentence}
    FLAGS               how it is run, one sentence
    VARIANTS            {name: settings}: ways to run it of which the fastest on this machine is taken
    prepare(threads)    imports, once in each worker, before any thread exists
    versions()          {package: version}
    convert(checkpoint, out, precision)         writes `out` (a file or a folder) from a Hugging Face checkpoint folder
    load(path, precision, threads, settings)    a model that can
        run(prompts, new_tokens) -> (prefill_seconds, decode_seconds, first token of each prompt)

`run` starts from an empty cache. Prompts have one length. Prefill ends with the first token of every prompt in hand;
the other `new_tokens - 1` tokens of each prompt are decoding. Tokens are the likeliest ones; none ends a text.
"""
