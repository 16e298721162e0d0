"""How iterations, passes, communications, bytes and seconds are counted, for people to read."""

COUNTING_RULES: tuple[str, ...] = (
    "iteration: one minibatch of SGD, or one outer iteration of Hessian-free optimisation (one "
    "gradient, one solve, one update)",
    "epochs, or effective passes: samples gone through over the size of the training set; a "
    "gradient, a trial loss on all samples and a minibatch count by their samples, a curvature "
    "product and a candidate loss by the samples of the curvature batch, once however many workers "
    "hold it",
    "vector communication: one sum over the workers of a vector as long as the model (for SGD: of "
    "one bucket; its two halves, all_to_all and all_gather, are one sum as an all-reduce is), or "
    "one broadcast of the model; a solver that works on a batch of its own needs none",
    "scalar communication: one sum of a few numbers on which the algorithm decides (inner "
    "products, candidate and trial losses, numbers of samples)",
    "bytes: all that leaves a worker for the others, whatever for: headers, evaluation, trials of "
    "minibatch sizes and agreement included; a ring all-reduce of n bytes sends 2 n (K - 1) / K",
    "seconds: training, with trials of minibatch sizes (their samples are not counted again); "
    "evaluation and checkpoints are outside",
    "training error: of all training samples at one model where it says exact; otherwise the "
    "average over an epoch in which the model was changing",
)
